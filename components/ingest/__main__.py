"""`python -m components.ingest`: the component alone, with plain flags."""

from components.ingest.contract import Ingest
from components.shared.contract import run

if __name__ == "__main__":
    run(Ingest, "components.ingest.job:run")
