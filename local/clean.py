"""`make clean`: drops the data, logs and passwords of the native stack."""

import shutil
import sys

from local.folder import FOLDER, InUseError, exclusive


def main() -> None:
    if not FOLDER.exists():
        return
    try:
        with exclusive(FOLDER):
            shutil.rmtree(FOLDER)
    except InUseError as error:
        sys.exit(f"{error} Stop it first.")
    except PermissionError as error:
        sys.exit(f"{error.filename} belongs to another user, who has to clean up: {error.strerror}.")


if __name__ == "__main__":
    main()
