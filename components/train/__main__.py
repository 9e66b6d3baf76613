"""`python -m components.train`: the component alone, with plain flags."""

from components.shared.contract import run
from components.train.contract import Train

if __name__ == "__main__":
    run(Train, "components.train.job:run")
