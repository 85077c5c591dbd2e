"""``python -m billing.notify``."""

from billing.notify.service import main

if __name__ == "__main__":
    main()
