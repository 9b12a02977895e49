"""The audit report as one HTML page: self-contained, no script, for people who are not statisticians.

`render.render_report` is the only door. The page shows numbers measured on real records, and real
records themselves unless a service shows them one by one: it never leaves the place where evidence is
reviewed.
"""
