"""A Typer program with five commands that do nothing: what start-up is measured against.

It has plain help as rft has, because Typer's coloured help costs about twice as much and would flatter the ratio.
"""

import typer

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def create(file: str) -> None:
    """Create something."""


@app.command()
def train(file: str) -> None:
    """Train something."""


@app.command()
def grade(file: str) -> None:
    """Grade something."""


@app.command()
def validate(file: str) -> None:
    """Validate something."""


@app.command()
def export(file: str) -> None:
    """Export something."""


if __name__ == "__main__":
    app()
