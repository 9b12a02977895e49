"""Bins that clinicians know: age bands, classes of weight, limits of common measurements.

They come from textbooks and guidelines, never from data: five-year bands of age, the WHO's classes of
body mass index, and customary adult reference limits and grades of severity. The outer edges are what
a living person or a working instrument can show. A laboratory that reports in other units needs
other edges.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ClinicalBins:
    """A measurement: the words that name its column, its kind, its unit, the edges of its bins."""

    words: tuple[str, ...]
    kind: str
    unit: str
    edges: tuple[float, ...]
    decimals: int = 1


CLINICAL_BINS = (
    ClinicalBins(("age",), "integer", "years", (*range(0, 95, 5), 120)),
    ClinicalBins(
        ("bmi", "body mass index"), "number", "kg/m²", (10, 16, 17, 18.5, 25, 30, 35, 40, 70)
    ),
    ClinicalBins(
        ("height", "stature"),
        "number",
        "cm",
        (40, 100, 140, 150, 155, 160, 165, 170, 175, 180, 190, 230),
    ),
    ClinicalBins(
        ("weight", "body weight"),
        "number",
        "kg",
        (2, 20, 40, 50, 60, 70, 80, 90, 100, 120, 150, 300),
    ),
    ClinicalBins(
        ("systolic", "sbp", "sysbp"),
        "integer",
        "mmHg",
        (50, 90, 100, 110, 120, 130, 140, 160, 180, 260),
    ),
    ClinicalBins(
        ("diastolic", "dbp", "diabp"),
        "integer",
        "mmHg",
        (20, 50, 60, 70, 80, 90, 100, 110, 120, 160),
    ),
    ClinicalBins(
        ("heart rate", "hr", "pulse", "hrt"),
        "integer",
        "1/min",
        (20, 50, 60, 70, 80, 90, 100, 120, 150, 250),
    ),
    ClinicalBins(
        ("respiratory rate", "resp", "rr"), "integer", "1/min", (4, 8, 12, 16, 20, 25, 30, 40, 70)
    ),
    ClinicalBins(
        ("temperature", "temp"), "number", "°C", (30, 35, 36, 36.5, 37, 37.5, 38, 39, 40, 43)
    ),
    ClinicalBins(
        ("spo2", "oxygen saturation", "sao2"),
        "integer",
        "%",
        (40, 80, 85, 88, 90, 92, 94, 96, 98, 100),
    ),
    ClinicalBins(
        ("hemoglobin", "haemoglobin", "hgb", "hb"),
        "number",
        "g/dl",
        (2, 7, 8, 10, 12, 13, 14, 15.5, 17.5, 25),
    ),
    ClinicalBins(
        ("white cells", "leukocytes", "wbc", "wblc"),
        "number",
        "10⁹/l",
        (0, 2, 4, 6, 8, 11, 15, 20, 50, 300),
    ),
    ClinicalBins(
        ("platelets", "thrombocytes", "plt"),
        "integer",
        "10⁹/l",
        (0, 20, 50, 100, 150, 250, 350, 450, 1500),
    ),
    ClinicalBins(
        ("sodium", "na", "sod"),
        "integer",
        "mmol/l",
        (95, 120, 125, 130, 135, 140, 145, 150, 160, 200),
    ),
    ClinicalBins(
        ("potassium", "k"), "number", "mmol/l", (1.5, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 10)
    ),
    ClinicalBins(
        ("creatinine", "crea"), "number", "mg/dl", (0.1, 0.6, 0.9, 1.2, 1.5, 2, 3, 5, 10, 30), 2
    ),
    ClinicalBins(
        ("urea nitrogen", "bun"), "integer", "mg/dl", (0, 7, 10, 15, 20, 30, 50, 100, 250)
    ),
    ClinicalBins(
        ("egfr", "glomerular filtration rate"),
        "integer",
        "ml/min/1.73 m²",
        (0, 15, 30, 45, 60, 75, 90, 120, 200),
    ),
    ClinicalBins(
        ("glucose", "blood sugar"),
        "integer",
        "mg/dl",
        (20, 55, 70, 100, 126, 140, 180, 250, 400, 1500),
    ),
    ClinicalBins(
        ("hba1c", "glycated hemoglobin"), "number", "%", (3, 5, 5.7, 6.5, 7, 8, 9, 10, 12, 20)
    ),
    ClinicalBins(("cholesterol",), "integer", "mg/dl", (50, 120, 160, 200, 240, 300, 600)),
    ClinicalBins(("ldl",), "integer", "mg/dl", (10, 55, 70, 100, 130, 160, 190, 400)),
    ClinicalBins(("hdl",), "integer", "mg/dl", (10, 30, 40, 50, 60, 80, 150)),
    ClinicalBins(("triglycerides",), "integer", "mg/dl", (20, 100, 150, 200, 500, 1000, 5000)),
    ClinicalBins(("albumin", "alb"), "number", "g/dl", (0.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 7)),
    ClinicalBins(("bilirubin", "bili"), "number", "mg/dl", (0, 0.3, 0.7, 1.2, 2, 3, 6, 12, 60)),
    ClinicalBins(("crp", "c reactive protein"), "number", "mg/l", (0, 1, 3, 10, 50, 100, 200, 700)),
    ClinicalBins(("ph",), "number", "", (6.5, 7, 7.2, 7.3, 7.35, 7.4, 7.45, 7.5, 7.6, 8), 2),
)


def bins_for(column: str) -> ClinicalBins | None:
    """Return the bins of the measurement that a column is named after, whole words only; else None."""
    words = _words(column)
    matches = [
        (len(name.split()), found)
        for found in CLINICAL_BINS
        for name in found.words
        if f" {name} " in f" {words} "
    ]
    return max(matches, key=lambda match: match[0])[1] if matches else None


def _words(column: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in column.casefold()).split())
