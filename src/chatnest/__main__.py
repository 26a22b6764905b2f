"""``python -m chatnest``: the command line."""

from chatnest.cli import main

if __name__ == "__main__":
    main()
