"""`make passwords`: fills the empty passwords of environment.env with random values."""

from local.folder import ROOT, fill_passwords, write_secret

FILE = ROOT / "environment.env"


def main() -> None:
    text, names = fill_passwords(FILE.read_text())
    if names:
        write_secret(FILE.resolve(), text)
    print(
        f"{FILE.name}: "
        + (f"filled {', '.join(names)}. Do not commit it." if names else "no password is empty.")
    )


if __name__ == "__main__":
    main()
