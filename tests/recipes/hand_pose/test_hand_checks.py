import numpy as np
import pytest

from jaxrecipes.recipes.hand_pose.label_checks import check_hand_labels, check_within_reach
from jaxrecipes.recipes.hand_pose.schema import LABELS

SIZE = np.array([[100, 200]] * 3)


def labels(**changes):
    """Three frames of a hand whose bones are about 30 mm long."""
    rng = np.random.default_rng(0)
    made = {name: np.zeros((3, *shape), np.float32) for name, shape in LABELS.items()}
    made["joint_cam"] = (rng.uniform(-20, 20, (3, 21, 3)) + np.array([0, 0, 500])).astype(
        np.float32
    )
    made["joint_img"] = rng.uniform(10, 90, (3, 21, 2)).astype(np.float32)
    made["hand_bbox"][:] = [10, 10, 90, 90]
    made["focal"][:] = 100
    made["joint_valid"][:] = made["mano_valid"][:] = 1
    for name, change in changes.items():
        made[name] = np.asarray(change(made[name].copy()), np.float32)
    return made


def put(value, *where):
    def change(array):
        array[where] = value
        return array

    return change


def test_true_labels_pass():
    check_hand_labels(labels())
    check_within_reach(labels(), SIZE)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        (
            "joint_cam",
            lambda a: a / 1000,
            r"length of 0.0\d+ mm; it seems to be in metres: .* 1000",
        ),
        ("joint_cam", lambda a: a / 10, r"length of \d\.\d+ mm; it seems to be in centimetres"),
        ("joint_cam", lambda a: a * 1000, r"median bone a length of .* mm; expected mm"),
        ("joint_cam", put(-3, 1, 4, 2), "frame 1 has joint 4 at a depth of -3 mm, behind the cam"),
        ("joint_cam", put(1e30, 2, 4, 0), "joint_cam of frame 2 has the number 1e.30, beyond"),
        ("mano_shape", put(1e30, 1, 4), "mano_shape of frame 1 has the number 1e.30, beyond"),
        (
            "mano_pose",
            put(-90, 1, 4),
            "frame 1 has a rotation of -90; expected radians, not degrees",
        ),
        ("joint_valid", put(0.7, 2, 4), "joint_valid of frame 2 is 0.7; expected 0 or 1"),
        ("mano_valid", put(255, 1), "mano_valid of frame 1 is 255; expected 0 or 1"),
        (
            "hand_bbox",
            put([9, 2, 8, 4], 1),
            r"frame 1 is \(9, 2, 8, 4\), an empty box; expected x1",
        ),
        ("hand_bbox", put([9, 2, 10, 2], 1), "an empty box"),
    ],
)
def test_what_cannot_be_true_is_refused_by_frame_and_value(name, change, says):
    with pytest.raises(ValueError, match=says):
        check_hand_labels(labels(**{name: change}))


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        (
            "joint_img",
            put([5000, 3], 1, 4),
            r"joint_img of frame 1 has the point \(5000, 3\) of joint 4, far outside of its image "
            "of 200 x 100 pixels",
        ),
        ("joint_img", put([5, -900], 1, 4), r"the point \(5, -900\) of joint 4"),
        ("hand_bbox", put([1, 2, 3, 9000], 2), r"hand_bbox of frame 2 has the point \(3, 9000\)"),
        ("joint_img", lambda a: a / 100, "all joint_img lie between 0 and 1; expected pixels"),
    ],
)
def test_points_out_of_reach_are_refused_by_frame_and_value(name, change, says):
    with pytest.raises(ValueError, match=says):
        check_within_reach(labels(**{name: change}), SIZE)


def test_what_is_marked_as_unknown_may_be_anything():
    made = labels(joint_valid=np.zeros_like, mano_valid=np.zeros_like)
    for name in ("joint_cam", "joint_img", "mano_pose", "hand_bbox"):
        made[name] *= -1e9
    check_hand_labels(made | {"hand_bbox": np.zeros((3, 4), np.float32)})
    check_within_reach(made, SIZE)


def test_a_joint_a_little_outside_is_kept():
    check_within_reach(labels(joint_img=put([-150, 250], 1, 4)), SIZE)
