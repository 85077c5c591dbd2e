from billing.charging.service import main

main()
