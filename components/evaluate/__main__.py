"""`python -m components.evaluate`: the component alone, with plain flags."""

from components.evaluate.contract import Evaluate
from components.shared.contract import run

if __name__ == "__main__":
    run(Evaluate, "components.evaluate.job:run")
