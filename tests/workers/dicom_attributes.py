"""What a Secondary Capture image must hold: attributes by module with their types (PS3.3, 2026).

The tables are A.8.1 (Secondary Capture Image IOD) and the modules that it names as mandatory, cut
down to what a single-frame grey image without calibration meets, and to optional attributes that we
write. An attribute that no row names is refused: it would be a Standard Extended SOP Class.
"""

from pydicom.dataset import Dataset
from pydicom.valuerep import validate_value

# module -> keyword -> (type, values that are allowed; empty: any)
MODULES: dict[str, dict[str, tuple[str, tuple[object, ...]]]] = {
    "Patient (C.7.1.1)": {
        "PatientName": ("2", ()),
        "PatientID": ("2", ()),
        "PatientBirthDate": ("2", ("",)),
        "PatientSex": ("2", ("",)),
        "PatientIdentityRemoved": ("3", ("YES",)),
        "DeidentificationMethod": ("1", ()),  # 1C, as identity is said to be removed
    },
    "General Study (C.7.2.1)": {
        "StudyInstanceUID": ("1", ()),
        "StudyDate": ("2", ("",)),
        "StudyTime": ("2", ("",)),
        "ReferringPhysicianName": ("2", ("",)),
        "StudyID": ("2", ("",)),
        "AccessionNumber": ("2", ("",)),
        "StudyDescription": ("3", ()),
    },
    "General Series (C.7.3.1)": {
        "Modality": ("1", ("OT",)),
        "SeriesInstanceUID": ("1", ()),
        "SeriesNumber": ("2", ()),
        "Laterality": ("2", ("",)),  # 2C: may be a paired part, and which side is not known
        "SeriesDescription": ("3", ()),
        "BodyPartExamined": ("3", ()),
    },
    "SC Equipment (C.8.6.1)": {"ConversionType": ("1", ("SYN",))},
    "General Image (C.7.6.1)": {
        "InstanceNumber": ("2", ()),
        "PatientOrientation": ("2", ("",)),
        "ImageType": ("1", (["DERIVED", "SECONDARY"],)),
        "DerivationDescription": ("3", ()),
        "ImageComments": ("3", ()),
        "BurnedInAnnotation": ("3", ("NO",)),
        "LossyImageCompression": ("3", ("00",)),
    },
    "Image Pixel (C.7.6.3)": {
        "SamplesPerPixel": ("1", (1,)),
        "PhotometricInterpretation": ("1", ("MONOCHROME2",)),
        "Rows": ("1", ()),
        "Columns": ("1", ()),
        "BitsAllocated": ("1", (8, 16)),
        "BitsStored": ("1", (8, 16)),
        "HighBit": ("1", (7, 15)),
        "PixelRepresentation": ("1", (0,)),
        "PixelData": ("1", ()),
    },
    "VOI LUT (C.11.2)": {"WindowCenter": ("3", ()), "WindowWidth": ("1", ())},
    "SOP Common (C.12.1)": {
        "SOPClassUID": ("1", ("1.2.840.10008.5.1.4.1.1.7",)),
        "SOPInstanceUID": ("1", ()),
        "SpecificCharacterSet": ("1", ("ISO_IR 192",)),
        "SyntheticData": ("3", ("YES",)),
        "ContributingEquipmentSequence": ("3", ()),
    },
}
EQUIPMENT = {
    "PurposeOfReferenceCodeSequence": ("1", ()),
    "Manufacturer": ("1", ()),
    "ManufacturerModelName": ("3", ()),
    "SoftwareVersions": ("3", ()),
    "ContributionDescription": ("3", ()),
}
CODE = {
    "CodeValue": ("1", ("109100",)),
    "CodingSchemeDesignator": ("1", ("DCM",)),
    "CodeMeaning": ("1", ("Synthesizing Equipment",)),
}


def find_faults(image: Dataset) -> list[str]:
    """Return what a Secondary Capture image lacks, has too much of, or states wrongly."""
    rows = {key: row for module in MODULES.values() for key, row in module.items()}
    faults = check_rows(image, rows)
    for equipment in image.get("ContributingEquipmentSequence", []):
        faults += check_rows(equipment, EQUIPMENT)
        for code in equipment.get("PurposeOfReferenceCodeSequence", []):
            faults += check_rows(code, CODE)
    if image.BitsAllocated != image.BitsStored or image.HighBit != image.BitsStored - 1:
        faults.append("the bits contradict each other")
    length = image.Rows * image.Columns * image.BitsAllocated // 8
    if len(image.PixelData) != length + length % 2:
        faults.append(f"{len(image.PixelData)} bytes of pixels instead of {length}")
    return faults


def check_rows(image: Dataset, rows: dict) -> list[str]:
    faults = [
        f"{element.keyword} is in no module" for element in image if element.keyword not in rows
    ]
    for keyword, (kind, allowed) in rows.items():
        element = image.get_item(keyword) if keyword in image else None
        if element is None:
            faults += [f"{keyword} is missing"] if kind in "12" else []
            continue
        value = image[keyword].value
        if kind == "1" and value in {"", None} if isinstance(value, str | None) else False:
            faults.append(f"{keyword} is empty")
        plain = list(value) if image[keyword].VM > 1 else value
        if allowed and (plain if plain is not None else "") not in allowed:
            faults.append(f"{keyword} is {plain!r}")
        faults += value_faults(keyword, image[keyword])
    return faults


def value_faults(keyword: str, element) -> list[str]:
    """Return what pydicom holds against the value of a text: its length and its characters."""
    if element.VR in {"SQ", "OB", "OW", "US"}:
        return []
    faults = []
    for value in element.value if element.VM > 1 else [element.value]:
        text = str(value) if element.VR in {"UI", "IS", "DS", "PN"} else value
        try:
            validate_value(element.VR, text, 2)
        except ValueError as error:
            faults.append(f"{keyword}: {error}")
    return faults
