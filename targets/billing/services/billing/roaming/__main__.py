"""``python -m billing.roaming``."""

from billing.roaming.service import main

if __name__ == "__main__":
    main()
