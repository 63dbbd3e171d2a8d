"""`python -m provenet`."""

from provenet.cli import main

if __name__ == "__main__":
    main()
