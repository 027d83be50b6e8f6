"""The command that makes an npz of a MANO file."""

import pickle

from jaxrecipes.models.hand.mano import read_mano


def test_the_npz_is_written_and_a_wrong_file_gets_a_line(script, golden, tmp_path):
    arrays = golden("hand_pose/mano_lbs")
    source, target = tmp_path / "MANO_RIGHT.pkl", tmp_path / "mano.npz"
    source.write_bytes(pickle.dumps({k.removeprefix("mano/"): v for k, v in arrays.items()}, 2))
    outcome = script("convert_mano", source, "--output", target)
    assert outcome.code == 0, outcome.err
    assert "30 vertices, 40 triangles" in outcome.out
    assert read_mano(target)["v_template"].shape == (30, 3)

    source.write_bytes(pickle.dumps({"weights": 1}))
    outcome = script("convert_mano", source, "--output", target)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "no MANO file" in outcome.err
