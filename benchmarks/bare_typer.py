"""A Typer program with as many commands as rft, which do nothing: what start-up is measured against.

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


@app.command()
def runs(folder: str) -> None:
    """List something."""


@app.command()
def show(file: str) -> None:
    """Show something."""


@app.command()
def compare(files: list[str]) -> None:
    """Compare something."""


@app.command()
def report(file: str) -> None:
    """Report something."""


if __name__ == "__main__":
    app()
