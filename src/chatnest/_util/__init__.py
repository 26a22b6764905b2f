"""What every layer may use: event loops, signals, identifiers, checks of arguments, addresses."""
