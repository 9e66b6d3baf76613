"""`python -m components.train`: the component alone, with plain flags."""

if __name__ == "__main__":
    from components.shared import interrupts

    interrupts.hear("train")  # before the imports that take time

    from components.shared.contract.command_line import run
    from components.train.contract import Train

    run(Train, "components.train.job:run")
