"""What the subcommands share: text, progress, signals and options."""
