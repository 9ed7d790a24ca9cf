"""`make rotate`: a new password for the API role of `make run`, without a lost request."""

import subprocess
import sys

from local.backup import complain, serving
from local.folder import FOLDER, InUseError, new_password, secret_file, write_secret
from local.postgres import INIT_SCRIPT, psql_environ
from local.processes import ProcessError


def main() -> int:
    data_dir = FOLDER / "postgres"
    if not data_dir.exists():
        return complain("There is no role yet: `make run` makes it.")
    try:
        with serving(data_dir) as environ:
            rotate(environ)
    except (ProcessError, InUseError) as error:
        return complain(str(error))
    print("The API role has a new password.")
    return 0


def rotate(environ: dict[str, str]) -> None:
    """First the file, then the role: meanwhile api-rest falls back on the password that worked last."""
    file, password = secret_file(FOLDER, "POSTGRES_API_PASSWORD"), new_password()
    before = file.read_text()
    write_secret(file, password)
    command = ["bash", str(INIT_SCRIPT), "--role-only"]
    settings = psql_environ(environ | {"POSTGRES_API_PASSWORD": password})
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        write_secret(file, before)
        raise ProcessError(f"The password stays as it was: {done.stderr.strip()}")


if __name__ == "__main__":
    sys.exit(main())
