"""Components of your own for agr; see pyproject.toml for what it adds."""
