import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.time.format.DateTimeFormatterBuilder;
import java.time.temporal.ChronoField;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.StringJoiner;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;

/**
 * Spark with Delta Lake, asked by a test: a statement of Spark SQL a line in, its rows out as {@code row a|b}, then
 * {@code done} or {@code error} and the reason. Values are written as Boathouse writes them, so that the
 * two can be compared as text.
 */
public class Spark {
    private static final DateTimeFormatter MOMENT = new DateTimeFormatterBuilder()
        .appendPattern("yyyy-MM-dd HH:mm:ss")
        .appendFraction(ChronoField.NANO_OF_SECOND, 0, 6, true)
        .toFormatter();

    public static void main(String[] arguments) throws Exception {
        SparkSession spark = SparkSession.builder()
            .master("local[2]")
            .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
            .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
            .config("spark.sql.datetime.java8API.enabled", "true")
            .config("spark.sql.session.timeZone", "UTC")
            // A few rows at a time: what makes large work fast makes this slow.
            .config("spark.default.parallelism", "1")
            .config("spark.sql.shuffle.partitions", "1")
            .config("spark.sql.sources.parallelPartitionDiscovery.parallelism", "1")
            .config("spark.databricks.delta.snapshotPartitions", "1")
            .config("spark.sql.adaptive.enabled", "false")
            .config("spark.sql.codegen.wholeStage", "false")
            .config("spark.sql.codegen.factoryMode", "NO_CODEGEN")
            .config("spark.sql.warehouse.dir", arguments[0])
            .config("spark.local.dir", arguments[0])
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.ui.enabled", "false")
            .getOrCreate();
        spark.sparkContext().setLogLevel("ERROR");
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        // VACUUM prints by itself.
        System.setOut(System.err);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String sql = in.readLine(); sql != null; sql = in.readLine()) {
            try {
                for (Row row : spark.sql(sql).collectAsList()) {
                    List<String> values = new ArrayList<>();
                    for (int index = 0; index < row.length(); index++) {
                        values.add(row.isNullAt(index) ? "∅" : text(row.get(index)));
                    }
                    out.println("row " + String.join("|", values));
                }
                out.println("done");
            } catch (Throwable error) {
                out.println("error " + error.toString().replace('\n', ' '));
            }
        }
        spark.stop();
    }

    private static String text(Object value) {
        if (value instanceof Boolean flag) {
            return flag ? "t" : "f";
        } else if (value instanceof BigDecimal number) {
            return number.toPlainString();
        } else if (value instanceof Double || value instanceof Float) {
            return number(value.toString());
        } else if (value instanceof byte[] bytes) {
            return "\\x" + HexFormat.of().formatHex(bytes);
        } else if (value instanceof Instant moment) {
            return MOMENT.format(moment.atOffset(ZoneOffset.UTC)) + "+00";
        } else if (value instanceof LocalDateTime moment) {
            return MOMENT.format(moment);
        } else if (value instanceof scala.collection.Seq<?> list) {
            List<String> items = new ArrayList<>();
            for (int index = 0; index < list.length(); index++) {
                Object item = list.apply(index);
                items.add(item instanceof scala.collection.Seq<?> ? text(item) : quoted(item));
            }
            return "{" + String.join(",", items) + "}";
        } else if (value instanceof Row || value instanceof scala.collection.Map<?, ?>) {
            return json(value);
        }
        return value.toString();
    }

    /** PostgreSQL writes 1e+300 where Java writes 1.0E300. */
    private static String number(String shown) {
        String brief = shown.replace(".0E", "E").replaceFirst("E(\\d)", "e+$1").replace("E-", "e-");
        return brief.endsWith(".0") ? brief.substring(0, brief.length() - 2) : brief;
    }

    /** An item of a PostgreSQL array. */
    private static String quoted(Object item) {
        if (item == null) {
            return "NULL";
        }
        String shown = text(item);
        boolean plain = !shown.isEmpty() && !shown.equalsIgnoreCase("null") && !shown.matches("(?s).*[{}\",\\\\\\s].*");
        return plain ? shown : "\"" + shown.replace("\\", "\\\\").replace("\"", "\\\"") + "\"";
    }

    private static String json(Object value) {
        if (value == null) {
            return "null";
        } else if (value instanceof Row row) {
            StringJoiner fields = new StringJoiner(",", "{", "}");
            for (int index = 0; index < row.length(); index++) {
                fields.add("\"" + row.schema().apply(index).name() + "\":" + json(row.get(index)));
            }
            return fields.toString();
        } else if (value instanceof scala.collection.Map<?, ?> map) {
            List<String> entries = new ArrayList<>();
            map.foreach(entry -> entries.add("\"" + text(entry._1()) + "\":" + json(entry._2())));
            return "{" + String.join(",", entries) + "}";
        } else if (value instanceof scala.collection.Seq<?> list) {
            StringJoiner items = new StringJoiner(",", "[", "]");
            list.foreach(item -> items.add(json(item)));
            return items.toString();
        } else if (value instanceof Boolean || value instanceof Number) {
            return value.toString();
        }
        return "\"" + text(value).replace("\\", "\\\\").replace("\"", "\\\"") + "\"";
    }
}
