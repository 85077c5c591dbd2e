"""``python -m billing.selfcare``."""

from billing.selfcare.service import main

if __name__ == "__main__":
    main()
