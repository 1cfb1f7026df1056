"""From a run to a site, and the command lines of daily work: `python -m tools.<name>`."""
