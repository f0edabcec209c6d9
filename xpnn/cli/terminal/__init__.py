"""What the subcommands share: printing, progress, signals and options."""
