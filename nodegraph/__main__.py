"""`python -m nodegraph`."""

from nodegraph.cli import program

if __name__ == "__main__":
    program()
