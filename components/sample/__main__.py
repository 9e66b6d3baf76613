"""`python -m components.sample`: the component alone, with plain flags."""

from components.sample.contract import Sample
from components.shared.contract import run

if __name__ == "__main__":
    run(Sample, "components.sample.job:run")
