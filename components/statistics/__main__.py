"""`python -m components.statistics`: the component alone, with plain flags."""

if __name__ == "__main__":
    from components.shared import interrupts

    interrupts.hear("statistics")  # before the imports that take time

    from components.shared.contract.command_line import run
    from components.statistics.contract import Statistics

    run(Statistics, "components.statistics.job:run")
