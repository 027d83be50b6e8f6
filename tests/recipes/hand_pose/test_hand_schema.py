import io
import os
import pickle

import numpy as np
import pytest

from jaxrecipes.recipes.hand_pose.schema import LABELS, HandSequence, pack_sequence, parse_sequence


def sequence(num_frames=2, **changes):
    rng = np.random.default_rng(0)
    labels = {
        name: rng.uniform(1, 2, (num_frames, *shape)).astype(np.float32)
        for name, shape in LABELS.items()
    }
    labels["joint_valid"][:] = labels["mano_valid"][:] = 1
    labels["hand_bbox"][:] = [1, 1, 5, 4]
    labels["joint_cam"] *= 100
    values = {"key": "k", "images": [b"one", b"two"], "left": True, "labels": labels}
    return HandSequence(**{**values, **changes})


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_packing_and_parsing_give_the_sequence_back():
    original = sequence(source="studio", paths=["a/0.png", "a/1.png"])
    parsed = parse_sequence("k", pack_sequence(original))
    for field in ("key", "images", "left", "source", "paths"):
        assert getattr(parsed, field) == getattr(original, field)
    for name in LABELS:
        np.testing.assert_array_equal(parsed.labels[name], original.labels[name])


def test_relative_joints_are_stored_too():
    original = sequence()
    members = pack_sequence(original)
    relative = np.load(io.BytesIO(members["joint_rel.npy"]))
    np.testing.assert_array_equal(relative[:, 0], 0)
    inside = np.load(io.BytesIO(members["joint_hand_bbox.npy"]))
    corner = original.labels["hand_bbox"][:, None, :2]
    np.testing.assert_allclose(inside + corner, original.labels["joint_img"], rtol=1e-6)


def test_names_of_the_later_schema_are_known():
    members = pack_sequence(sequence())
    members["has_mano.npy"] = members.pop("mano_valid.npy")
    members["joint_3d_valid.npy"] = members.pop("joint_valid.npy")
    members |= {"joint_2d_valid.npy": b"?", "additional_desc.json": b"?"}
    np.testing.assert_array_equal(parse_sequence("k", members).labels["mano_valid"], 1)


def test_only_what_the_network_needs_must_be_there():
    members = pack_sequence(sequence())
    for name in ("joint_rel.npy", "joint_hand_bbox.npy", "imgs_path.json"):
        del members[name]
    assert parse_sequence("k", members).paths is None


class Harmful:
    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_unpickling_runs_no_code(tmp_path):
    Harmful.folder = str(tmp_path / "made")
    members = pack_sequence(sequence()) | {"img_bytes.pickle": pickle.dumps([Harmful()])}
    with pytest.raises(ValueError, match="something else than a list of bytes"):
        parse_sequence("k", members)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("img_bytes.pickle", pickle.dumps("text"), "something else than a list of bytes"),
        ("img_bytes.pickle", pickle.dumps([b"x", "y"]), "something else than a list of bytes"),
        ("img_bytes.pickle", pickle.dumps([]), "no images"),
        ("img_bytes.pickle", b"\x80", "cannot be read"),
        ("handedness.json", b'"both"', "says 'both'; expected 'left' or 'right'"),
        ("handedness.json", b"{", "is no JSON"),
        ("joint_cam.npy", npy(np.zeros((2, 20, 3))), r"shape \(2, 20, 3\), expected \(2, 21, 3\)"),
        ("focal.npy", b"\x93NUMPY", "focal.npy cannot be read"),
        ("focal.npy", npy(np.zeros((2, 2))), "focal is not positive"),
        ("focal.npy", npy(np.array([[object()] * 2] * 2)), "cannot be read"),
        (
            "mano_pose.npy",
            npy(np.full((2, 48), np.nan)),
            "mano_pose is not finite where mano_valid",
        ),
        ("joint_cam.npy", npy(np.full((2, 21, 3), np.inf)), "joint_cam is not finite where"),
        ("hand_bbox.npy", npy(np.full((2, 4), np.nan)), "hand_bbox is not finite"),
        ("princpt.npy", None, "princpt.npy is missing"),
    ],
)
def test_what_is_wrong_is_said(name, content, reason):
    members = pack_sequence(sequence())
    members[name] = content
    if content is None:
        del members[name]
    with pytest.raises(ValueError, match=reason):
        parse_sequence("k", members)


def test_labels_that_are_not_valid_may_be_nan_and_become_zero():
    original = sequence()
    original.labels["mano_valid"][1] = original.labels["joint_valid"][0, 5] = 0
    original.labels["mano_pose"][1] = original.labels["joint_cam"][0, 5] = np.nan
    labels = parse_sequence("k", pack_sequence(original)).labels
    np.testing.assert_array_equal(labels["mano_pose"][1], 0)
    np.testing.assert_array_equal(labels["joint_cam"][0, 5], 0)
    np.testing.assert_array_equal(labels["mano_pose"][0], original.labels["mano_pose"][0])


def test_what_cannot_be_packed_is_refused():
    with pytest.raises(ValueError, match="'k' has no frames"):
        pack_sequence(sequence(images=[]))
    with pytest.raises(ValueError, match=r"hand_bbox of sequence 'k' has shape \(2, 4\), expected"):
        pack_sequence(sequence(images=[b"one"]))
    with pytest.raises(ValueError, match="no label hand_bbox"):
        pack_sequence(sequence(labels={}))
