"""Makes `python -m engine.edge.cli` the same as the program `everstep`."""

from engine.edge.cli.main import main

main()
