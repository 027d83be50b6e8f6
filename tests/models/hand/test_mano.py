"""MANO files: what is read from a pickle of Python 2 with chumpy in it, and what is refused."""

import contextlib
import io
import os
import pickle
import struct
import sys
import types
from typing import ClassVar

import numpy as np
import pytest
from scipy import sparse

from jaxrecipes.convert import UnsafeCheckpointError
from jaxrecipes.models.hand import mano
from jaxrecipes.models.hand.mano import convert_mano, load_mano, read_mano

TIPS = (25, 26, 27, 28, 29)  # of the small hand in the golden arrays


class Ch:
    """Stands for chumpy's classes in the files that are made here."""

    def __init__(self, **state):
        self.__dict__.update(state, _dirty_vars={"x"}, _status="new")


class Select(Ch):
    pass


class Reshape(Ch):
    pass


class Add(Ch):
    pass


Ch.__module__ = "chumpy.ch"
Select.__module__ = Reshape.__module__ = "chumpy.reordering"
Add.__module__ = "chumpy.ch_ops"


@contextlib.contextmanager
def chumpy_installed():
    """Lets pickles name the classes above; afterwards no such module is there."""
    names = ("chumpy", "chumpy.ch", "chumpy.ch_ops", "chumpy.reordering")
    modules = {name: types.ModuleType(name) for name in names}
    for kind in (Ch, Select, Reshape, Add):
        setattr(modules[kind.__module__], kind.__name__, kind)
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


class Python2Pickler(pickle._Pickler):
    """Writes bytes and text as Python 2 writes its str."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value):
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)

    def save_str(self, value):
        self.save_bytes(value.encode("latin1"))

    dispatch[bytes], dispatch[str] = save_bytes, save_str


OLD_NAMES = {b"numpy._core": b"numpy.core", b"scipy.sparse._csc": b"scipy.sparse.csc"}


def python2_pickle(value) -> bytes:
    stream = io.BytesIO()
    with chumpy_installed():
        Python2Pickler(stream, protocol=2).dump(value)
    pickled = stream.getvalue()
    for name, old in OLD_NAMES.items():
        pickled = pickled.replace(name, old)
    return pickled


@pytest.fixture(scope="module")
def fields(golden):
    arrays = golden("hand_pose/mano_lbs")
    return {key.removeprefix("mano/"): value for key, value in arrays.items() if "mano/" in key}


@pytest.fixture(scope="module")
def official(fields):
    """The dict of an official file, as chumpy, SciPy and Python 2 have it."""
    shapedirs = fields["shapedirs"].astype(np.float64)
    more = np.concatenate([shapedirs, -shapedirs], 2)
    indices = np.arange(more.size).reshape(more.shape)[:, :, :10]
    return {
        **fields,
        "J_regressor": sparse.csc_matrix(fields["J_regressor"].astype(np.float64)),
        "shapedirs": Select(a=Ch(x=more), idxs=indices.ravel(), preferred_shape=indices.shape),
        "v_template": Ch(x=np.asfortranarray(fields["v_template"], np.float64)),
        "posedirs": Reshape(a=Ch(x=fields["posedirs"].ravel()), newshape=fields["posedirs"].shape),
        "f": fields["f"].astype(">u4"),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


@pytest.fixture
def stored(tmp_path):
    """`stored(dict)` is the path of a file that holds it."""

    def store(value, name="MANO_RIGHT.pkl"):
        path = tmp_path / name
        path.write_bytes(python2_pickle(value))
        return path

    return store


def assert_same(got, fields):
    for name, array in got.items():
        np.testing.assert_array_equal(array[..., 1:], fields[name][..., 1:], err_msg=name)


def test_a_pickle_of_python_2_with_chumpy_and_sparse_arrays_is_read(official, fields, stored):
    got = read_mano(stored(official))
    assert_same(got, fields)
    assert got["kintree_table"][0, 0] == 2**32 - 1
    assert "chumpy" not in sys.modules


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_of_python_3_is_read(official, fields, tmp_path, protocol):
    path = tmp_path / "mano.pkl"
    with chumpy_installed():
        path.write_bytes(pickle.dumps(official, protocol))
    assert_same(read_mano(path), fields)


def test_the_oldest_protocol_is_read(fields, tmp_path):
    path = tmp_path / "mano.pkl"
    with chumpy_installed():
        node = pickle.dumps({"hands_mean": Ch(x=1)}, 0)
    assert b"_reconstructor" in node
    path.write_bytes(node)
    with pytest.raises(ValueError, match="no MANO file: it has no v_template"):
        read_mano(path)


def test_the_npz_of_a_pickle_is_the_same_hand(official, fields, stored, tmp_path):
    target = tmp_path / "folder" / "mano.npz"
    convert_mano(stored(official), target)
    assert_same(read_mano(target), fields)
    model = load_mano(target, fingertips=TIPS)
    np.testing.assert_array_equal(model.joint_regressor, fields["joint_regressor_21"])
    assert (model.faces.dtype, model.v_template.dtype) == (np.int32, np.float32)


class Malicious:
    """Its pickle makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_code_is_refused_by_name(official, stored, tmp_path):
    target = tmp_path / "made"
    path = stored({**official, "bs_style": Malicious(target)})
    with pytest.raises(UnsafeCheckpointError, match=r"(posix|nt)\.mkdir"):
        read_mano(path)
    assert not target.exists()


@pytest.mark.parametrize(
    "name", ["os system", "builtins eval", "numpy load", "numpy.f2py.crackfortran myeval"]
)
def test_names_beyond_those_of_mano_are_refused(tmp_path, name):
    path = tmp_path / "mano.pkl"
    path.write_bytes(b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n.")
    with pytest.raises(UnsafeCheckpointError, match=name.replace(" ", r"\.")):
        read_mano(path)


def test_a_regressor_of_the_users_own(official, stored, tmp_path):
    regressor = np.random.default_rng(0).uniform(size=(21, 30))
    np.save(tmp_path / "joints.npy", regressor)
    model = load_mano(stored(official), regressor=tmp_path / "joints.npy")
    np.testing.assert_allclose(model.joint_regressor, regressor, rtol=1e-6)
    np.save(tmp_path / "joints.npy", regressor[:20])
    with pytest.raises(ValueError, match=r"expected a joint regressor \(21, 30\), got \(20, 30\)"):
        load_mano(stored(official), regressor=tmp_path / "joints.npy")


def test_fingertips_beyond_the_mesh_are_refused(official, stored):
    with pytest.raises(ValueError, match=r"expected 5 vertices between 0 and 29 .* \(745, 317,"):
        load_mano(stored(official))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": np.zeros((30, 24))}, r"weights \(30, 24\) instead of \(30, 16\)"),
        ({"v_template": np.full((30, 3), np.nan)}, "not finite in v_template"),
        ({"f": np.full((40, 3), 30)}, "f names vertices beyond its 30"),
        ({"kintree_table": np.zeros((2, 16))}, r"the parents of its joints are \(0, 0,"),
        ({"v_template": "none"}, "v_template cannot be read: not an array of numbers"),
        ({"shapedirs": Add(a=1, b=2)}, "chumpy.ch_ops.Add is a node of chumpy that computes"),
    ],
)
def test_a_wrong_file_gets_a_line(official, stored, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_mano(stored({**official, **change}))
    assert "\n" not in str(caught.value)


def test_what_is_no_pickle_of_a_dict_gets_a_line(stored, tmp_path):
    with pytest.raises(ValueError, match="it holds no dict of fields"):
        read_mano(stored([1, 2]))
    path = tmp_path / "page.pkl"
    path.write_text("not found")
    with pytest.raises(ValueError, match="neither a pickle nor an npz"):
        read_mano(path)
    np.savez(tmp_path / "objects.npz", v_template=np.array([None]), allow_pickle=True)
    with pytest.raises(ValueError, match="no npz of plain arrays"):
        read_mano(tmp_path / "objects.npz")


def hand_like(fields, side):
    """The fields with the joints of a hand: fingers along -x, thumb at +z, palm down."""
    rows = [(-80.0, 0, 25), (-90, 3, 3), (-75, -2, -35), (-84, 2, -17), (-26, -12, 27)]
    steps = [(-30.0, 0, 0)] * 4 + [(-25, -12, 20)]
    joints = np.zeros((16, 3))
    for finger, (base, step) in enumerate(zip(rows, steps, strict=True)):
        joints[1 + 3 * finger : 4 + 3 * finger] = np.add(base, np.outer(range(3), step))
    template = np.zeros((30, 3))
    template[:16] = joints * np.array([side, 1, 1]) / 1000
    return {**fields, "v_template": template, "J_regressor": np.eye(16, 30)}


def test_a_left_hand_is_refused_by_its_shape_and_by_its_name(fields, stored):
    read_mano(stored(hand_like(fields, 1)))
    with pytest.raises(ValueError, match=r"is a left hand; expected MANO_RIGHT\.pkl"):
        read_mano(stored(hand_like(fields, -1)))
    with pytest.raises(ValueError, match="is a left hand"):
        read_mano(stored(fields, "MANO_LEFT.pkl"))


def test_an_npz_that_unpacks_without_measure_is_refused(fields, tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "hand.npz", **{**fields, "posedirs": np.zeros(10**6)})
    monkeypatch.setattr(mano, "_MOST_UNPACKED", 10**6)
    with pytest.raises(ValueError, match=r"no npz of plain arrays: it unpacks to \d+ bytes"):
        read_mano(tmp_path / "hand.npz")


def test_an_npz_cut_short_gets_a_line(fields, tmp_path):
    np.savez_compressed(tmp_path / "hand.npz", **fields)
    data = bytearray((tmp_path / "hand.npz").read_bytes())
    data[80:120] = bytes(40)
    (tmp_path / "hand.npz").write_bytes(data)
    with pytest.raises(ValueError, match="no npz of plain arrays"):
        read_mano(tmp_path / "hand.npz")
