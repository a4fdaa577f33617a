"""`python -m softcert` is `softcert`."""

from softcert.cli import main

if __name__ == "__main__":
    main()
