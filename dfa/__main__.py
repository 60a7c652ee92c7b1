"""``python -m dfa``: the command line, as ``opu``."""

from dfa.cli.main import main

if __name__ == "__main__":
    main()
