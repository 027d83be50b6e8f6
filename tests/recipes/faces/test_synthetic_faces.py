import numpy as np
import pytest

from jaxrecipes.recipes.faces.synthetic import draw_faces

PEOPLE, VIEWS, TRAIN = 300, 10, 180


@pytest.fixture(scope="module")
def world():
    return draw_faces(42, num_people=PEOPLE, views_per_person=VIEWS, feat_dim=64)


def held_out_cosine(inputs, targets):
    """Of the last 120 people's targets and a ridge regression's estimate from the other 180."""
    seen = TRAIN * VIEWS
    inputs = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
    train = inputs[:seen]
    weights = np.linalg.solve(
        train.T @ train + 3.0 * np.eye(inputs.shape[1]), train.T @ targets[:seen]
    )
    return mean_cosine(inputs[seen:] @ weights, targets[seen:])


def mean_cosine(a, b):
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean(np.sum(a * b, axis=1) / lengths))


def test_pose_is_needed_to_undo_the_drift_on_people_never_seen(world):
    views, poses = world.video.features, world.video.poses / (30.0, 60.0, 30.0)
    targets = np.repeat(world.front.features, VIEWS, axis=0)
    given = np.concatenate([poses, poses**2], axis=1)
    products = [views * poses[:, 1:2], views * poses[:, 2:], views * poses[:, 1:2] ** 2]
    start = mean_cosine(views[TRAIN * VIEWS :], targets[TRAIN * VIEWS :])
    linear = held_out_cosine(views, targets)
    added = held_out_cosine(np.concatenate([views, given], axis=1), targets)
    both = held_out_cosine(np.concatenate([views, given, *products], axis=1), targets)
    assert start == pytest.approx(0.60, abs=0.02)
    assert linear == pytest.approx(0.78, abs=0.03)
    assert added == pytest.approx(0.82, abs=0.03)
    assert both == pytest.approx(0.96, abs=0.02)


def test_features_have_unit_length_and_people_are_told_apart(world):
    for side in (world.front, world.video):
        lengths = np.linalg.norm(side.features, axis=1)
        np.testing.assert_allclose(lengths, 1.0, atol=1e-6)
    people = world.front.features @ world.front.features.T
    assert np.abs(people - np.eye(PEOPLE)).max() < 0.95
    assert world.video.persons == [name for name in world.front.persons for _ in range(VIEWS)]


def test_the_same_seed_draws_the_same_world_and_another_seed_another():
    size = {"num_people": 3, "views_per_person": 2, "feat_dim": 24}
    first, again, other = (draw_faces(seed, **size) for seed in (1, 1, 2))
    for name in ("features", "poses", "keypoints"):
        np.testing.assert_array_equal(getattr(first.video, name), getattr(again.video, name))
        assert not np.allclose(getattr(first.video, name), getattr(other.video, name))


def test_keypoints_follow_the_pose(world):
    points, poses = world.video.keypoints, world.video.poses
    assert points.shape == (PEOPLE * VIEWS, 5, 3)
    nose_aside = points[:, 2, 0] - points[:, :2, 0].mean(axis=1)
    assert np.corrcoef(nose_aside, poses[:, 1])[0, 1] > 0.95
    eyes = points[:, 1] - points[:, 0]
    tilt = np.rad2deg(np.arctan2(eyes[:, 1], eyes[:, 0]))
    assert np.corrcoef(tilt, poses[:, 0])[0, 1] > 0.8
    assert np.abs(points.mean(axis=1)).max() < 1e-6


def test_poses_are_in_the_order_tilt_yaw_nod(world):
    tilt, yaw, nod = world.video.poses.T
    assert np.abs(yaw).max() <= 60
    assert np.abs(yaw).mean() == pytest.approx(30, abs=2)
    assert np.abs(nod).max() <= 30
    assert tilt.std() == pytest.approx(8, abs=0.5)
    assert not world.front.poses.any()


def test_too_few_dimensions_are_refused():
    with pytest.raises(ValueError, match="24 dimensions or more, not 8"):
        draw_faces(0, num_people=2, views_per_person=2, feat_dim=8)
