"""The APIs that the fake upstream speaks: Chat Completions, Responses, Messages."""
