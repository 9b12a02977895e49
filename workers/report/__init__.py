"""The audit report as one HTML page: self-contained, no script, for people who are not statisticians.

`render.render_report` is the only door. The page shows real records: it never leaves the place where
evidence is reviewed.
"""
