"""`python -m components.statistics`: the component alone, with plain flags."""

from components.shared.contract import run
from components.statistics.contract import Statistics

if __name__ == "__main__":
    run(Statistics, "components.statistics.job:run")
