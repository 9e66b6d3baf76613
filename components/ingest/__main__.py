"""`python -m components.ingest`: the component alone, with plain flags."""

if __name__ == "__main__":
    from components.shared import interrupts

    interrupts.hear("ingest")  # before the imports that take time

    from components.ingest.contract import Ingest
    from components.shared.contract.command_line import run

    run(Ingest, "components.ingest.job:run")
