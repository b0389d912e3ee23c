"""A steady load of small transactions: each updates, deletes and inserts a row by key of one of four tables.

    python load.py PORT RATE SECONDS ROWS

Several threads keep to one timetable. Each transaction is sent at once, so that Python keeps up. Prints the
transactions done and the seconds.
"""

import random
import sys
import threading
import time

import pymysql

port, rate, seconds, rows = (int(argument) for argument in sys.argv[1:])
THREADS = 4
done = [0] * THREADS
begin = time.perf_counter() + 0.5


def work(number: int) -> None:
    draw = random.Random(number)
    connection = pymysql.connect(host="127.0.0.1", port=port, user="boathouse", password="boathouse", autocommit=True,
                                 client_flag=pymysql.constants.CLIENT.MULTI_STATEMENTS)
    cursor = connection.cursor()
    for turn in range(number, rate * seconds, THREADS):
        wait = begin + turn / rate - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        elif -wait > seconds:
            break
        table, changed, replaced = turn % 4, draw.randrange(1, rows + 1), draw.randrange(1, rows + 1)
        try:
            cursor.execute(
                f"BEGIN; UPDATE delay.t{table} SET k = k + 1, c = '{draw.getrandbits(256):064x}' WHERE id = {changed}; "
                f"DELETE FROM delay.t{table} WHERE id = {replaced}; "
                f"INSERT INTO delay.t{table} VALUES ({replaced}, {turn}, '{draw.getrandbits(256):064x}', 'pad'); COMMIT")
            while cursor.nextset():
                pass
            done[number] += 1
        except pymysql.err.OperationalError as error:
            # A deadlock: two threads took the same two rows.
            if error.args[0] not in (1205, 1213):
                raise
            connection.rollback()


threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sum(done), time.perf_counter() - begin)
