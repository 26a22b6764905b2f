"""Refusals of upstreams: their documents, and the errors and waits in them. Every dialect uses
them, since gateways answer in the forms of other servers.
"""
