"""A table of the shape of ClickBench's `hits`: its 105 columns, with its kinds of skew, from a seed.

What the queries look at has cardinalities near the original's: a sixth as many users and URLs as rows,
seven of eight search phrases empty, one counter of interest with 0.7 % of the rows, a month of days.
The columns no query looks at hold few values, as most of theirs do. Rows come in the original's order:
by counter, day and user, one run for each file.
"""

import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

FILE_ROWS = 1_000_000
COUNTER, USER = 62, 435090932899640449
REFERER_HASH, URL_HASH = 3594120000172545465, 2868770270353813622

# Name and type in order: i2, i4, i8, t(ext), d(ate), s (timestamp).
COLUMNS = """
WatchID i8, JavaEnable i2, Title t, GoodEvent i2, EventTime s, EventDate d, CounterID i4, ClientIP i4, RegionID i4,
UserID i8, CounterClass i2, OS i2, UserAgent i2, URL t, Referer t, IsRefresh i2, RefererCategoryID i2,
RefererRegionID i4, URLCategoryID i2, URLRegionID i4, ResolutionWidth i2, ResolutionHeight i2, ResolutionDepth i2,
FlashMajor i2, FlashMinor i2, FlashMinor2 t, NetMajor i2, NetMinor i2, UserAgentMajor i2, UserAgentMinor t,
CookieEnable i2, JavascriptEnable i2, IsMobile i2, MobilePhone i2, MobilePhoneModel t, Params t, IPNetworkID i4,
TraficSourceID i2, SearchEngineID i2, SearchPhrase t, AdvEngineID i2, IsArtifical i2, WindowClientWidth i2,
WindowClientHeight i2, ClientTimeZone i2, ClientEventTime s, SilverlightVersion1 i2, SilverlightVersion2 i2,
SilverlightVersion3 i4, SilverlightVersion4 i2, PageCharset t, CodeVersion i4, IsLink i2, IsDownload i2,
IsNotBounce i2, FUniqID i8, OriginalURL t, HID i4, IsOldCounter i2, IsEvent i2, IsParameter i2, DontCountHits i2,
WithHash i2, HitColor t, LocalEventTime s, Age i2, Sex i2, Income i2, Interests i2, Robotness i2, RemoteIP i4,
WindowName i4, OpenerName i4, HistoryLength i2, BrowserLanguage t, BrowserCountry t, SocialNetwork t, SocialAction t,
HTTPError i2, SendTiming i4, DNSTiming i4, ConnectTiming i4, ResponseStartTiming i4, ResponseEndTiming i4,
FetchTiming i4, SocialSourceNetworkID i2, SocialSourcePage t, ParamPrice i8, ParamOrderID t, ParamCurrency t,
ParamCurrencyID i2, OpenstatServiceName t, OpenstatCampaignID t, OpenstatAdID t, OpenstatSourceID t, UTMSource t,
UTMMedium t, UTMCampaign t, UTMContent t, UTMTerm t, FromTag t, HasGCLID i2, RefererHash i8, URLHash i8, CLID i4
"""
NAMED = [tuple(column.split()) for column in COLUMNS.replace("\n", " ").split(",")]
SQL = {"i2": "smallint", "i4": "integer", "i8": "bigint", "t": "text", "d": "date", "s": "timestamp"}
ARROW = {"i2": pa.int16(), "i4": pa.int32(), "i8": pa.int64(), "t": pa.string(), "d": pa.date32(),
         "s": pa.timestamp("us")}
SCHEMA = pa.schema([(name, ARROW[kind]) for name, kind in NAMED])
WORDS = pa.array(
    "купить недорого москва отзывы смотреть онлайн скачать бесплатно погода карта новости форум работа фото "
    "авто квартира рецепт фильм игра телефон ремонт цена магазин расписание поезд банк кредит дети школа "
    "game video music photo shop news map forum hotel ticket".split())


def generate(folder: pathlib.Path, rows: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, rows, FILE_ROWS)):
        table = part(np.random.default_rng(number + 1), start, min(FILE_ROWS, rows - start), rows)
        pq.write_table(table, folder / f"hits-{number:03}.parquet", compression="zstd", compression_level=1)


def part(draw: np.random.Generator, start: int, count: int, rows: int) -> pa.Table:
    users, urls = max(rows // 6, 100), max(rows // 5, 100)

    def skewed(distinct: int) -> np.ndarray:
        """Ranks by Zipf's law of exponent one."""
        return np.minimum(distinct ** draw.random(count), distinct - 1).astype(np.int64)

    def mixed(distinct: int) -> np.ndarray:
        """Half by Zipf, half evenly."""
        return np.where(draw.random(count) < 0.5, skewed(distinct), draw.integers(0, distinct, count))

    def chance(probability: float, values, otherwise=0) -> np.ndarray:
        return np.where(draw.random(count) < probability, values, otherwise)

    counter = chance(0.993, 1000 + skewed(6500) * 7, COUNTER)
    user = scatter(mixed(users), 7)
    user[draw.random(count) < 4e-8 * 1e8 / max(rows, 1)] = USER
    day = 15887 + draw.integers(0, 31, count)
    order = np.lexsort((user, day, counter))
    counter, user, day = counter[order], user[order], day[order]
    second = day * 86400 + np.minimum(draw.gamma(8, 5400, count), 86399).astype(np.int64)
    url, referer, phrase = mixed(urls), mixed(urls), mixed(rows // 16 + 10)
    has_phrase, has_referer = draw.random(count) < 0.13, draw.random(count) < 0.8
    phone = chance(0.05, skewed(166))
    given = {
        "WatchID": scatter(np.arange(start, start + count), 3),
        "Title": joined(phrases(scatter(url, 5), 5), pa.array(np.where(url % 900 == 1, " - Google", " - сайт"))),
        "EventTime": second * 1_000_000, "EventDate": day, "CounterID": counter, "UserID": user,
        "ClientIP": scatter(mixed(rows // 10 + 10), 11) >> 33, "RegionID": 1 + skewed(9000),
        "OS": skewed(90), "UserAgent": skewed(80), "URL": addresses(url),
        "Referer": pc.if_else(pa.array(has_referer), addresses(referer), ""),
        "IsRefresh": chance(0.15, 1), "RefererCategoryID": skewed(50), "RefererRegionID": skewed(5000),
        "URLCategoryID": skewed(50), "URLRegionID": skewed(5000),
        "ResolutionWidth": 320 + skewed(200) * 16 % 1600, "ResolutionHeight": 240 + skewed(150) * 8,
        "UserAgentMajor": skewed(60), "UserAgentMinor": texts(skewed(40)),
        "IsMobile": np.minimum(phone, 1), "MobilePhone": phone,
        "MobilePhoneModel": pc.if_else(pa.array(phone > 0), joined("model ", texts(phone)), ""),
        "IPNetworkID": skewed(100000), "TraficSourceID": draw.integers(-1, 10, count),
        "SearchEngineID": np.where(has_phrase, 1 + skewed(90), 0),
        "SearchPhrase": pc.if_else(pa.array(has_phrase), phrases(scatter(phrase, 13), 3), ""),
        "AdvEngineID": chance(0.0063, 1 + skewed(30)), "WindowClientWidth": 300 + skewed(1600),
        "WindowClientHeight": 200 + skewed(1200), "ClientEventTime": (second + draw.integers(-60, 60, count)) * 1_000_000,
        "IsLink": chance(0.05, 1), "IsDownload": chance(0.01, 1), "DontCountHits": chance(0.1, 1),
        "FUniqID": scatter(mixed(users), 17), "HID": scatter(np.arange(count), start + 19) >> 33,
        "OriginalURL": pc.if_else(pa.array(draw.random(count) < 0.4), addresses(url), ""),
        "LocalEventTime": (second + 14400) * 1_000_000, "Age": skewed(60), "Sex": draw.integers(0, 3, count),
        "Income": draw.integers(0, 4, count), "RemoteIP": scatter(mixed(rows // 10 + 10), 23) >> 33,
        "SendTiming": skewed(5000), "DNSTiming": skewed(3000), "ConnectTiming": skewed(3000),
        "ResponseStartTiming": skewed(9000), "ResponseEndTiming": skewed(20000), "FetchTiming": skewed(30000),
        "RefererHash": np.where(draw.random(count) < 0.003, REFERER_HASH, scatter(referer, 29)),
        "URLHash": np.where(draw.random(count) < 0.003, URL_HASH, scatter(url, 31)), "HitColor": texts(skewed(5)),
    }
    arrays = []
    for name, kind in NAMED:
        values = given.get(name)
        if values is None:
            few = skewed(4)
            values = pc.if_else(pa.array(few > 1), texts(few), "") if kind == "t" else few - 1
        if not isinstance(values, (pa.Array, pa.ChunkedArray)):
            whole = {"d": pa.int32(), "s": pa.int64()}.get(kind, ARROW[kind])
            values = pa.array(values).cast(whole).cast(ARROW[kind])
        arrays.append(values)
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def scatter(values: np.ndarray, salt: int) -> np.ndarray:
    """Another number of 63 bits for each value, always the same."""
    mixed = (values.astype(np.uint64) + np.uint64(salt)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(1)).astype(np.int64)


def texts(values: np.ndarray) -> pa.Array:
    return pa.array(values).cast(pa.string())


def joined(*pieces) -> pa.Array:
    return pc.binary_join_element_wise(*pieces, "")


def phrases(seeds: np.ndarray, words: int) -> pa.Array:
    """Some words and a number for each seed."""
    taken = [WORDS.take(pa.array((seeds >> (6 * place)) % len(WORDS))) for place in range(words)]
    return pc.binary_join_element_wise(*taken, texts(seeds % 100_000), " ")


def addresses(ids: np.ndarray) -> pa.Array:
    """Pages of hosts: popular hosts have most of the pages; one in 6,000 pages speaks of google."""
    seeds = scatter(ids, 37)
    host = (5000 ** ((seeds % 65536) / 65536)).astype(np.int64)
    kind = np.where(seeds % 6000 == 1, ".google.ru/search", np.where(seeds % 3 == 0, ".ru/catalog", ".com/index"))
    www = np.where(seeds % 5 == 0, "http://www.", "http://")
    return joined(pa.array(www), "site", texts(host), pa.array(kind), "/page/", texts(ids), "?ref=",
                  texts(seeds % 1_000_003), "&session=", texts(seeds % 10_000_019))
