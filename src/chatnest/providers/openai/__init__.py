"""Shared by the dialects of OpenAI: the account, the server, facts of models, usage figures."""
