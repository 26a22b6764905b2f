"""Programs that load a server for minutes, and print what came of it."""
