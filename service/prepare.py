"""Bring an instance up to date once, before its processes start: `python -m service.prepare`.

Applies the database migrations, makes the keys and the buckets that are missing. Running it again
changes nothing. The supervisor runs it at every start; a deployment runs it as a one-shot job.
"""
