"""`python -m asrpeft`: the command line, where its script is not on the path."""

from asrpeft.cli.main import run

if __name__ == "__main__":
    run()
