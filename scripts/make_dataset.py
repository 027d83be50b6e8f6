"""Makes the parquet of labelled images from annotation files or folders of images."""

import argparse
import sys
from pathlib import Path

from jaxrecipes.data.make_parquet import make_parquet


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--annotation",
        nargs="+",
        default=[],
        type=Path,
        metavar="CSV",
        help="files without header, image_path,class_id (1 = open), or folders of such files",
    )
    parser.add_argument(
        "--images",
        nargs="+",
        default=[],
        type=Path,
        metavar="FOLDER",
        help="folders of images whose file or folder names contain 'open' or 'closed'",
    )
    parser.add_argument("--output", required=True, type=Path, help="the parquet file to write")
    parser.add_argument(
        "--train-ratio", default=0.8, type=float, help="share of train (default %(default)s)"
    )
    parser.add_argument("--seed", default=42, type=int, help="of the split (default %(default)s)")
    parser.add_argument(
        "--embed-images", action="store_true", help="store the image files in the parquet"
    )
    parser.add_argument(
        "--max-rows-per-file",
        type=int,
        metavar="N",
        help="write OUTPUT_0001.parquet and so on with at most N rows each",
    )
    arguments = parser.parse_args()
    if not arguments.annotation and not arguments.images:
        parser.error("give --annotation or --images")

    def show(done: int, total: int) -> None:
        print(f"{done} of {total} rows", file=sys.stderr)

    try:
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
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(map(str, files)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
