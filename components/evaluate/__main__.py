"""`python -m components.evaluate`: the component alone, with plain flags."""

if __name__ == "__main__":
    from components.shared import interrupts

    interrupts.hear("evaluate")  # before the imports that take time

    from components.evaluate.contract import Evaluate
    from components.shared.contract.command_line import run

    run(Evaluate, "components.evaluate.job:run")
