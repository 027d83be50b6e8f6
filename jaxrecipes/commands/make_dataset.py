"""Makes a dataset from images, embeddings or hand crops.

Of images (--annotation, --images) it makes the parquet that ocec reads; of embeddings (--features)
the folder that the face recipes read; of hand crops with joints (--hands) the tar shards that
hand_pose reads.

  jaxrecipes make_dataset --images FOLDER [FOLDER ...] --output FILE.parquet
  jaxrecipes make_dataset --features FILE.npz --pose-order pitch,yaw,roll --output FOLDER
  jaxrecipes make_dataset --hands FILE.parquet --handedness left --output FOLDER
"""

import argparse
import sys

from jaxrecipes import cli
from jaxrecipes.paths import check_output_file, check_output_folder
from jaxrecipes.recipes.faces.make_folder import convert_features
from jaxrecipes.recipes.hand_pose.make_shards import FitHands, fit_with, make_hand_shards
from jaxrecipes.recipes.ocec.make_parquet import count_classes, make_parquet


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--output", required=True, type=cli.path, help="the parquet file, or the folder, to write"
    )
    _add_image_flags(parser.add_argument_group("images"))
    _add_feature_flags(parser.add_argument_group("embeddings"))
    _add_hand_flags(parser.add_argument_group("hands"))
    arguments = parser.parse_args()
    from_images = bool(arguments.annotation or arguments.images)
    if from_images + (arguments.features is not None) + (arguments.hands is not None) != 1:
        parser.error("give --annotation or --images, or else --features, or else --hands")
    if arguments.hands is not None and arguments.handedness is None:
        parser.error("--hands needs --handedness left or --handedness right")
    if from_images:
        check_output_file(arguments.output, inputs=arguments.annotation)
        _make_parquet(arguments)
        return
    check_output_folder(arguments.output, what="--output")
    if arguments.hands is not None:
        _make_hand_shards(arguments)
    else:
        _make_face_folder(arguments)


def _add_image_flags(flags: argparse._ArgumentGroup) -> None:
    flags.add_argument(
        "--annotation",
        nargs="+",
        default=[],
        type=cli.path,
        metavar="CSV",
        help="files without header, image_path,class_id (1 = open), or folders of such files",
    )
    flags.add_argument(
        "--images",
        nargs="+",
        default=[],
        type=cli.path,
        metavar="FOLDER",
        help="folders of images; the nearest folder with the word open or closed in its name "
        "says the class, else the file's own name",
    )
    flags.add_argument(
        "--train-ratio", default=0.8, type=float, help="share of train (default %(default)s)"
    )
    flags.add_argument("--seed", default=42, type=int, help="of the split (default %(default)s)")
    flags.add_argument(
        "--embed-images", action="store_true", help="store the image files in the parquet"
    )
    flags.add_argument(
        "--max-rows-per-file",
        type=int,
        metavar="N",
        help="write OUTPUT_0001.parquet and so on with at most N rows each",
    )


def _add_feature_flags(flags: argparse._ArgumentGroup) -> None:
    flags.add_argument(
        "--features", type=cli.path, metavar="NPZ", help="arrays of embeddings, people and poses"
    )
    for name, default, what in (
        ("embeddings", "embeddings", "[N, D]"),
        ("person", "person", "[N], who or what is shown"),
        ("pose", "pose", "degrees, [N, angles] or [N]"),
    ):
        flags.add_argument(
            f"--{name}-key",
            default=default,
            metavar="KEY",
            help=f"the array of {name}, {what} (default %(default)s)",
        )
    flags.add_argument(
        "--pose-order",
        default="roll,yaw,pitch",
        metavar="ANGLES",
        help="what the columns of the pose are: roll (in-plane tilt), yaw (left and right), pitch "
        "(nod); one that is left out is 0 (default %(default)s)",
    )
    flags.add_argument(
        "--pitch-offset",
        default=0.0,
        type=float,
        metavar="DEGREES",
        help="added to pitch; 180 as in data of the original's pose estimator (default 0)",
    )
    flags.add_argument(
        "--frontal-key",
        metavar="KEY",
        help="the array that says which rows are frontal photos, [N] bool; without it the rows of "
        "each person with the smallest yaw are",
    )
    flags.add_argument(
        "--frontals-per-person",
        default=1,
        type=int,
        metavar="N",
        help="how many those are (default %(default)s)",
    )
    flags.add_argument("--keypoints-key", metavar="KEY", help="the array of keypoints, [N, 5, 3]")
    flags.add_argument(
        "--principal-axes",
        action="store_true",
        help="turn the embeddings onto their principal axes (cosines stay; OUTPUT/rotation.npy)",
    )


def _add_hand_flags(flags: argparse._ArgumentGroup) -> None:
    flags.add_argument(
        "--hands",
        type=cli.path,
        metavar="PARQUET",
        help="crops of hands with joints, camera and split",
    )
    flags.add_argument("--handedness", choices=("left", "right"), help="of all these hands")
    flags.add_argument(
        "--fit",
        nargs="?",
        const="procedural",
        metavar="MANO",
        help="fit a hand to the joints and store its pose and shape as labels: that of a "
        "MANO_RIGHT.pkl, or without a file the procedural one; use the same hand in training",
    )


def _make_parquet(arguments: argparse.Namespace) -> None:
    def show(done: int, total: int) -> None:
        print(f"{done} of {total} rows", file=sys.stderr)

    files = make_parquet(
        arguments.output,
        annotations=arguments.annotation,
        images=arguments.images,
        train_ratio=arguments.train_ratio,
        seed=arguments.seed,
        embed_images=arguments.embed_images,
        max_rows_per_file=arguments.max_rows_per_file,
        progress=show,
    )
    for split, classes in count_classes(files).items():
        counts = ", ".join(f"{count} {name}" for name, count in sorted(classes.items()))
        print(f"{split}: {counts}", file=sys.stderr)
    print("\n".join(map(str, files)))


def _make_face_folder(arguments: argparse.Namespace) -> None:
    made = convert_features(
        arguments.features,
        arguments.output,
        pose_order=[name.strip() for name in arguments.pose_order.split(",")],
        pitch_offset=arguments.pitch_offset,
        embeddings_key=arguments.embeddings_key,
        person_key=arguments.person_key,
        pose_key=arguments.pose_key,
        frontal_key=arguments.frontal_key,
        frontals_per_person=arguments.frontals_per_person,
        keypoints_key=arguments.keypoints_key,
        principal_axes=arguments.principal_axes,
    )
    print(
        f"{made.people} people, {made.front_rows} frontal photos, {made.video_rows} side views",
        file=sys.stderr,
    )
    if made.unpaired:
        print(
            f"{len(made.unpaired)} people have only one of them and cannot be used: "
            + ", ".join(made.unpaired[:10]),
            file=sys.stderr,
        )
    print(arguments.output)


def _make_hand_shards(arguments: argparse.Namespace) -> None:
    made = make_hand_shards(
        arguments.hands,
        arguments.output,
        handedness=arguments.handedness,
        fit=None if arguments.fit is None else _fit(arguments.fit),
    )
    said = ", ".join(f"{count} frames of {split}" for split, count in sorted(made.frames.items()))
    if arguments.fit is not None:
        said += f"; {made.fitted} of them fitted, {made.fit_error:.1f} mm from the joints"
    print(said, file=sys.stderr)
    print(arguments.output)


def _fit(mano: str) -> FitHands:
    from jaxrecipes.models.hand.mano import load_mano
    from jaxrecipes.models.hand.procedural import procedural_hand

    return fit_with(procedural_hand() if mano == "procedural" else load_mano(mano))
