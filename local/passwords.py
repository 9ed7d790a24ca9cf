"""`make passwords`: fills the empty passwords of environment.env with random values."""

from local.folder import ROOT, fill_passwords

FILE = ROOT / "environment.env"


def main() -> None:
    text, names = fill_passwords(FILE.read_text())
    if names:
        FILE.chmod(0o600)
        FILE.write_text(text)
    print(
        f"{FILE.name}: "
        + (f"filled {', '.join(names)}. Do not commit it." if names else "no password is empty.")
    )


if __name__ == "__main__":
    main()
