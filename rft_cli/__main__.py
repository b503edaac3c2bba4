"""`python -m rft_cli`, also under `accelerate launch -m rft_cli`."""

from rft_cli.cli import main

if __name__ == "__main__":
    main()
