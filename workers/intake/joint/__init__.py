"""Read an upload of images with their table into the blobs of a dataset version."""

from workers.intake.joint.upload import read_joint_upload

__all__ = ["read_joint_upload"]
