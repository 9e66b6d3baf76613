"""`python -m components.sample`: the component alone, with plain flags."""

if __name__ == "__main__":
    from components.shared import interrupts

    interrupts.hear("sample")  # before the imports that take time

    from components.sample.contract import Sample
    from components.shared.contract.command_line import run

    run(Sample, "components.sample.job:run")
