"""`python -m components.outcome`: the component alone, with plain flags."""

from components.outcome.contract import Outcome
from components.shared.contract import run

if __name__ == "__main__":
    run(Outcome, "components.outcome.job:run")
