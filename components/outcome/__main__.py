"""`python -m components.outcome`: the component alone, with plain flags."""

if __name__ == "__main__":
    from components.shared import interrupts

    interrupts.hear("outcome")  # before the imports that take time

    from components.outcome.contract import Outcome
    from components.shared.contract.command_line import run

    run(Outcome, "components.outcome.job:run")
