"""The benches of tools/bench, one module a subcommand."""
